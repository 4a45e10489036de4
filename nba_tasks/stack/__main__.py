"""`python -m nba_tasks.stack`: what the Makefile calls."""

from nba_tasks.stack.commands import app

app()
