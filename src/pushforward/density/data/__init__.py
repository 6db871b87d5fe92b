"""What are the columns? Arrays or files of numbers, their supports and steps, and the split of their rows."""
