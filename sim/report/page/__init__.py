"""A report as one page: sections that each answer a question, as HTML that opens from disk, and as Markdown."""
