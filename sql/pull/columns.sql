-- One row per column of a table or view, with its type's name; a domain counts as the type it rests on.
select
    a.attname as column,
    case t.typtype when 'e' then 'enum' else t.typname end as type
from pg_attribute as a
join pg_type as declared on declared.oid = a.atttypid
join pg_type as t on t.oid = coalesce(nullif(declared.typbasetype, 0), declared.oid)
where a.attrelid = to_regclass(:name) and a.attnum > 0 and not a.attisdropped
order by a.attnum
