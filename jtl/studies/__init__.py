"""Many runs, one table: together in one program, by any number of workers."""
