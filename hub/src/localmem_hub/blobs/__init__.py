"""The hub's store on Azure Blob Storage."""
