"""What are the columns? Arrays or files of numbers, their supports and steps, and which rows are held out."""
