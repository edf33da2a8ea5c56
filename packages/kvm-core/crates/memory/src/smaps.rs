//! What the kernel says about the pages of a mapping.

use std::fs::File;
use std::io::{BufRead, BufReader};

/// Sums over the areas of one mapping, in bytes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub huge: u64,
    pub resident: u64,
}

/// Usage of `[start, start + len)`, zero where /proc is not mounted.
pub(crate) fn of_mapping(start: usize, len: usize) -> Usage {
    File::open("/proc/self/smaps")
        .map(|file| {
            sum(BufReader::new(file), start as u64, (start as u64).saturating_add(len as u64))
        })
        .unwrap_or_default()
}

fn sum(text: impl BufRead, start: u64, end: u64) -> Usage {
    let mut usage = Usage::default();
    let mut inside = false;
    for line in text.lines() {
        let Ok(line) = line else { break };
        if let Some((from, to)) = area(&line) {
            inside = from >= start && to <= end;
        } else if inside {
            let mut words = line.split_ascii_whitespace();
            let (Some(name), Some(kib)) = (words.next(), words.next()) else { continue };
            let bytes = kib.parse::<u64>().unwrap_or(0).saturating_mul(1024);
            match name {
                "Rss:" => usage.resident += bytes,
                "AnonHugePages:" | "ShmemPmdMapped:" => usage.huge += bytes,
                // Pages of hugetlbfs are counted apart from the resident ones.
                "Shared_Hugetlb:" | "Private_Hugetlb:" => {
                    usage.huge += bytes;
                    usage.resident += bytes;
                }
                _ => {}
            }
        }
    }
    usage
}

/// The address range of a line that opens an area, as in `7f00-7f10 rw-p 0 00:00 0`.
fn area(line: &str) -> Option<(u64, u64)> {
    let (range, _) = line.split_once(' ')?;
    let (from, to) = range.split_once('-')?;
    Some((u64::from_str_radix(from, 16).ok()?, u64::from_str_radix(to, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_areas_of_the_mapping_count() {
        let text = "1000-3000 ---p 00000000 00:00 0\nRss: 4 kB\n\
            3000-5000 rw-p 00000000 00:00 0\nRss: 8 kB\nAnonHugePages: 2048 kB\nVmFlags: rd wr\n\
            5000-6000 rw-p 00000000 00:00 0\nRss: 16 kB\n";
        let usage = sum(text.as_bytes(), 0x3000, 0x5000);
        assert_eq!(usage, Usage { huge: 2048 * 1024, resident: 8 * 1024 });
    }
}
