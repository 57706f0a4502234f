//! What docker-compose.yml starts.
