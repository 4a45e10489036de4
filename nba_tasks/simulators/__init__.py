"""Made-up customers with a known truth: they write the CRM contract's tables and answer what a policy really earns."""
