-- What the role behind NBA_CRM_URL needs in the source database, and no more. For psql, as the owner of the relations:
--     psql --dbname crm --set role=nba --file sql/crm/rights.sql
-- `--set schema=…` names another schema than public. Safe to repeat; run it again when a relation was added.
\set ON_ERROR_STOP on
\if :{?schema}
\else
\set schema public
\endif

grant usage on schema :"schema" to :"role";

-- One row per relation of the contract that is there: it is read, and nothing else.
select format('grant select on %I.%I to %I', :'schema', relation, :'role')
from unnest(array['customers', 'contacts', 'events', 'actions', 'customer_changes', 'action_changes']) as relation
where to_regclass(format('%I.%I', :'schema', relation)) is not null
\gexec

-- Decisions that were logged before: read as well, and added to.
select format('grant select, insert on %I.decisions to %I', :'schema', :'role')
where to_regclass(format('%I.decisions', :'schema')) is not null
\gexec

-- The first publication makes the tables that are published, and the role owns them. Afterwards this can be revoked.
grant create on schema :"schema" to :"role";
