-- One row per local day of {{ relation }} from first_day on, as history holds it now.
select
    ({{ time | identifier }} at time zone :zone)::date as day,
    count(*) as rows,
    sum(digest)::bigint as digest
from history.{{ relation }}
where programme_id = :programme_id
  and superseded_by is null
  and {{ time | identifier }} >= nba.midnight(:first_day, :zone)
  and {{ time | identifier }} < nba.midnight(:as_of, :zone)
group by 1
