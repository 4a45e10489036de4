-- Makes the batch of an as_of. A date before the newest merged one is a dry run of the past: it pulls nothing, and
-- counts as merged at once, so that reading up to it finds all that is known today.
insert into nba.batches (batch_id, programme_id, as_of, staged_at, validated_at, merged_at)
select
    coalesce((select max(batch_id) from nba.batches), 0) + 1,
    :programme_id,
    :as_of,
    case when :past then now() end,
    case when :past then now() end,
    case when :past then now() end
returning batch_id
