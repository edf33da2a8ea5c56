//! The network that a guest sees with `-netdev user`: a router with NAT, made of ordinary sockets.
//!
//! Frames come in batches ([`batch`]) into [`net::Net`], which answers what is for the router itself
//! (ARP, DHCP, neighbour discovery, TFTP, echo) and gives the rest to sockets of the host. TCP towards
//! the guest is smoltcp's. All sockets are in one epoll together with a clock: whoever runs the network
//! waits for that one descriptor, so it needs no thread.
//!
//! The guest is hostile: every length is checked where it is read, and all tables have a limit.
#![forbid(unsafe_code)]

mod arp;
pub mod batch;
mod checksum;
pub mod config;
mod context;
mod datagram;
mod dhcp;
mod host;
mod icmp;
mod link;
mod ndp;
pub mod net;
mod packet;
pub mod question;
mod reassembly;
mod resolver;
pub mod state;
pub mod tcp;
mod tftp;
mod translate;
mod udp;
