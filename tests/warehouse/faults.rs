//! Servers, networks and other sessions that get in the way.
