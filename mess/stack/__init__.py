"""The local stack: embedded Postgres, a broker, workers and the API under one supervisor."""
