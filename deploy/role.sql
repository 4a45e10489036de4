-- The role that the tasks work with, and its warehouse, on a server of your own. For psql, as a superuser:
--     psql --dbname postgres --set password=… --file deploy/role.sql
-- The role may log in and owns the warehouse; what it may do in the CRM is in sql/crm/rights.sql. Safe to repeat: an
-- existing role gets the new password.
\set ON_ERROR_STOP on
\if :{?role}
\else
\set role nba
\endif

select format('create role %I', :'role')
where not exists (select from pg_roles where rolname = :'role')
\gexec
alter role :"role" login nosuperuser nocreatedb nocreaterole noreplication nobypassrls password :'password';

select format('create database warehouse owner %I encoding ''UTF8'' template template0', :'role')
where not exists (select from pg_database where datname = 'warehouse')
\gexec
revoke connect on database warehouse from public;
