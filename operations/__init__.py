"""What those who run the system do by hand."""
