"""The drivers: one module or package for each kind of service. They import the plug's interface and the model only."""
