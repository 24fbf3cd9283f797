"""One method a file. A method reads like its objective; the step builder does the rest."""
