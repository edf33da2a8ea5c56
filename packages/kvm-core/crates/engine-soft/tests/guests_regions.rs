//! The guests of `guests`, with whatever runs a third time translated: by then a block knows where it
//! leads, so that loops become regions.

#[path = "guests/main.rs"]
mod guests;
