"""Opens what stages have made. Everything that reads an output folder reads it through this room."""
