-- One row per programme that the warehouse knows.
select programme from nba.programmes order by programme
