//! The connections, by number, by ends and by time.

use std::collections::{BTreeSet, HashMap, VecDeque};

use super::connection::{Connection, Key, Stage};
use crate::host::{Kind, Token};

/// Bytes of a buffer of a connection, while all buffers together have less than the second number.
const BUFFERS: [(usize, usize); 3] =
    [(512 << 10, 64 << 20), (64 << 10, 192 << 20), (16 << 10, usize::MAX)];

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    connection: Option<Box<Connection>>,
}

/// All connections.
#[derive(Debug)]
pub struct Table {
    slots: Vec<Slot>,
    free: Vec<u32>,
    keys: HashMap<Key, u32>,
    timers: BTreeSet<(u64, u32)>,
    queue: VecDeque<(u32, u32)>,
    limit: usize,
    /// Bytes of all buffers.
    pub memory: usize,
}

impl Table {
    /// An empty one for `limit` connections.
    pub fn new(limit: usize) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            keys: HashMap::new(),
            timers: BTreeSet::new(),
            queue: VecDeque::new(),
            limit,
            memory: 0,
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.keys.len()
    }

    /// No more can be added.
    pub fn is_full(&self) -> bool {
        self.keys.len() >= self.limit
    }

    /// Bytes that a buffer of the next connection has: the fewer, the more there are.
    pub fn buffer(&self) -> usize {
        let fits = BUFFERS.iter().find(|(_, total)| self.memory < *total);
        fits.map_or(BUFFERS[2].0, |(bytes, _)| *bytes)
    }

    /// Buffers of a connection were made.
    pub fn grew(&mut self, bytes: usize) {
        self.memory += bytes;
    }

    /// Adds a connection whose ends no other has.
    pub fn add(&mut self, connection: Connection) -> Token {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            (self.slots.len() - 1) as u32
        });
        self.keys.insert(connection.key, index);
        let slot = &mut self.slots[index as usize];
        slot.connection = Some(Box::new(connection));
        Token { kind: Kind::Tcp, index, generation: slot.generation }
    }

    /// Drops a connection and its sockets.
    pub fn remove(&mut self, index: u32) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        let Some(connection) = slot.connection.take() else { return };
        slot.generation = (slot.generation + 1) & 0xff_ffff;
        self.memory = self.memory.saturating_sub(connection.memory);
        self.keys.remove(&connection.key);
        if let Some(at) = connection.wake_us {
            self.timers.remove(&(at, index));
        }
        self.free.push(index);
    }

    /// Drops all.
    pub fn clear(&mut self) {
        for index in 0..self.slots.len() as u32 {
            self.remove(index);
        }
        self.queue.clear();
    }

    /// All that there are.
    pub fn connections(&self) -> impl Iterator<Item = &Connection> {
        self.slots.iter().filter_map(|slot| slot.connection.as_deref())
    }

    /// The one with these ends.
    pub fn find(&self, key: Key) -> Option<u32> {
        self.keys.get(&key).copied()
    }

    /// The one with this number.
    pub fn get_mut(&mut self, index: u32) -> Option<&mut Connection> {
        self.slots.get_mut(index as usize)?.connection.as_deref_mut()
    }

    /// The one that a socket belongs to, unless it is gone.
    pub fn with_mut(&mut self, token: Token) -> Option<&mut Connection> {
        let slot = self.slots.get_mut(token.index as usize)?;
        if slot.generation != token.generation {
            return None;
        }
        slot.connection.as_deref_mut()
    }

    /// It is to be looked at.
    pub fn queue(&mut self, index: u32) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        let Some(connection) = &mut slot.connection else { return };
        if connection.queued {
            return;
        }
        connection.queued = true;
        self.queue.push_back((index, slot.generation));
        // Those of connections that are gone stay until it is their turn, but not without a limit.
        if self.queue.len() > 2 * self.slots.len() + 64 {
            let slots = &self.slots;
            self.queue.retain(|(index, generation)| {
                slots.get(*index as usize).is_some_and(|slot| slot.generation == *generation)
            });
        }
    }

    /// How many are to be looked at.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// The next that is to be looked at.
    pub fn take(&mut self) -> Option<u32> {
        loop {
            let (index, generation) = self.queue.pop_front()?;
            let slot = self.slots.get_mut(index as usize)?;
            if let Some(connection) = &mut slot.connection
                && slot.generation == generation
            {
                connection.queued = false;
                return Some(index);
            }
        }
    }

    /// All that are open and have sent nothing yet, as the guest's card was not known.
    pub fn queue_waiting(&mut self) {
        let waits = |slot: &Slot| {
            slot.connection.as_ref().is_some_and(|connection| {
                matches!(connection.stage, Stage::Open)
                    && connection.state() == smoltcp::socket::tcp::State::SynSent
            })
        };
        let waiting: Vec<u32> = (0..self.slots.len() as u32)
            .filter(|index| waits(&self.slots[*index as usize]))
            .collect();
        for index in waiting {
            self.queue(index);
        }
    }

    /// It is to be looked at, at that time at the latest.
    pub fn wake(&mut self, index: u32, at_us: u64) {
        let Some(connection) = self.get_mut(index) else { return };
        let known = connection.wake_us;
        if known.is_some_and(|known| known <= at_us) {
            return;
        }
        connection.wake_us = Some(at_us);
        if let Some(known) = known {
            self.timers.remove(&(known, index));
        }
        self.timers.insert((at_us, index));
    }

    /// Those whose time has come are to be looked at.
    pub fn tick(&mut self, now_us: u64) {
        while let Some(&(at, index)) = self.timers.first()
            && at <= now_us
        {
            self.timers.pop_first();
            if let Some(connection) = self.get_mut(index) {
                connection.wake_us = None;
            }
            self.queue(index);
        }
    }

    /// When the next has.
    pub fn next_us(&self) -> Option<u64> {
        self.timers.first().map(|(at, _)| *at)
    }
}
