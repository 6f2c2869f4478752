//! Per-peer accounts: calls, connections and buffered bytes of each peer of an endpoint.
//!
//! A peer is an identity, the node name in its certificate, however many connections it has. Every
//! limit of the endpoint is a [`FairShare`] among peers, so that no peer can take all of it.

mod fair_share;
mod overdraft;
mod peer_account;
mod peer_map;
mod reservation;
mod stream_budget;
mod windows;

pub(crate) use self::{
    fair_share::{FairShare, SHARE_FLOOR},
    peer_account::{
        ConnectionAccount, ConnectionGuard, InFlightGuard, PeerAccount, PeerAccounts, WaiterGuard,
    },
    peer_map::PeerMap,
    reservation::BufferReservation,
    stream_budget::StreamBudget,
    windows::WINDOW_FLOOR,
};

#[cfg(test)]
mod tests;
