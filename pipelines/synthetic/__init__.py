"""The built-in face presentation-attack benchmark: procedural faces, cameras and attacks, from one seed."""
