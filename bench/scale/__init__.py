"""The night at the size of a real CRM: what each step takes, beside the floor that no program can go below."""
