"""What was asked, the data read and the method built, a run's life, and its report."""
