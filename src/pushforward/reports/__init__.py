"""How are results shown to users? Tables, figures, pages and folders of files, made from plain data."""
