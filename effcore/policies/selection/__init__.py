"""Selection policies, one file each: what is known of an example -> inclusion probability."""
