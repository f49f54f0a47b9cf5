"""Arguments and help of every `agfas` command, in two files; each command imports its stage only when it runs."""
