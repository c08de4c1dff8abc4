"""One self-contained HTML page of results, from records and run folders: `content` -> `figures` -> `page`."""
