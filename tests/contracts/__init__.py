"""What every entry of every table keeps: a new entry is tested here without touching a test."""
