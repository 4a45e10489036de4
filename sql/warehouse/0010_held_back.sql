-- What each rule of a programme forbade to the customers of a shard: a list of rule, customers, customers by action.

alter table nba.scored_shards add column held_back jsonb not null default '[]';
