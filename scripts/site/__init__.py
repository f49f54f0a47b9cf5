"""What the site has beyond the Markdown in docs/: pages of the root, and what the code itself writes and draws."""
