"""From joules to kWh, CO2e, money, a cluster's year and larger sizes; every step with its range."""
