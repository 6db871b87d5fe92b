"""What does a person see of a result? Tables, figures, pages and folders of files, made from plain data."""
