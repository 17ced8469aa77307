"""Conversion of joules to kWh, CO2e and money, and projection to clusters and larger models."""
