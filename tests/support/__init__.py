"""What tests share: services and their fixtures."""
