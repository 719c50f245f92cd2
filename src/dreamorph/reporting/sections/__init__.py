"""One module per section of the report: `build(inputs)` gives what its template shows."""
