-- What moved a choice is worked out when the list is written, of what was drawn alone.
alter table nba.scores drop column moved;
