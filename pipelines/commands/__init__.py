"""What `agfas` can be told, by what it is about; every command calls one stage, and imports it only when it runs."""
