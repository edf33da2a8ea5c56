//! What jumps know of their targets, in few bytes: a machine has tens of thousands of such jumps.

use super::memory::CodeMemory;
use super::stamps::NEVER;

/// Where the targets of one jump are in the code. Each is the linear address, 8 bytes, and the stamp, 4 bytes, that
/// the jump compares with, and the displacement of a jump: at the same distances in all of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Targets {
    /// The linear address of the first, from the start of the region and later of the code memory.
    at: u32,
    /// From one to the next.
    stride: u16,
    /// From the linear address to the stamp, and to the end of the jump.
    stamp: u8,
    jump: u8,
    count: u8,
}

impl Targets {
    /// Of a jump that may know so many, which are placed one by one.
    pub fn new(count: usize) -> Self {
        Self { count: count as u8, ..Self::default() }
    }

    /// The next of them is there.
    pub fn place(&mut self, rip: usize, stamp: usize, jump: usize) {
        if self.jump == 0 {
            self.at = rip as u32;
        } else if self.stride == 0 {
            self.stride = (rip - self.at as usize) as u16;
        }
        debug_assert!(
            self.stride == 0 || (rip - self.at as usize).is_multiple_of(self.stride.into())
        );
        let near = |at: usize| u8::try_from(at - rip).expect("a target is some 50 bytes");
        (self.stamp, self.jump) = (near(stamp), near(jump));
    }
}

/// A jump of the guest's code.
#[derive(Clone, Copy, Debug)]
struct Site {
    targets: Targets,
    /// How often it learned one that others had to go for.
    learned: u8,
    /// The first of its places in the list of stamps.
    first: u32,
}

/// Of those that come where all places are taken one in so many gets one: most often what is there is of more
/// use.
const ONE_IN: u8 = 8;

/// All jumps that know targets, by number.
#[derive(Debug, Default)]
pub struct Sites {
    all: Vec<Site>,
    /// The stamp of each target, as it is in the code.
    stamps: Vec<u32>,
}

impl Sites {
    /// The number of the next one.
    pub fn next(&self) -> usize {
        self.all.len()
    }

    /// Adds those of a region that begins `start` bytes behind the start of the code memory.
    pub fn add(&mut self, start: usize, targets: &[Targets]) {
        for &one in targets {
            let first = self.stamps.len();
            self.stamps.resize(first + usize::from(one.count), NEVER);
            let targets = Targets { at: one.at + start as u32, ..one };
            self.all.push(Site { targets, learned: 0, first: first as u32 });
        }
    }

    /// Lets the jump with a number go to `code` wherever the target is `rip` and the stamp this one.
    pub fn learn(&mut self, memory: &mut CodeMemory, number: u32, rip: u64, stamp: u32, code: u64) {
        let Some(site) = self.all.get_mut(number as usize) else { return };
        let Targets { at, stride, count, .. } = site.targets;
        let first = site.first as usize;
        let known = &mut self.stamps[first..first + usize::from(count)];
        let free = known.iter().position(|&known| known != stamp);
        let place = free.unwrap_or_else(|| {
            site.learned = site.learned.wrapping_add(1);
            usize::from(site.learned / ONE_IN % count)
        });
        if free.is_none() && !site.learned.is_multiple_of(ONE_IN) {
            return;
        }
        known[place] = stamp;
        let at = memory.start() + u64::from(at) + place as u64 * u64::from(stride);
        memory.write(at, rip.to_le_bytes());
        memory.write(at + u64::from(site.targets.stamp), stamp.to_le_bytes());
        memory.patch(at + u64::from(site.targets.jump), code);
    }
}
