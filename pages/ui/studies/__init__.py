"""Parts of the Compare and Frontier pages."""
