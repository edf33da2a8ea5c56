//! The host's pool of 2 MiB pages.

use std::path::Path;

use kvm_abi::{Errno, KvmError};

/// Bytes of a page of the pool.
pub(crate) const HUGE_BYTES: usize = 2 << 20;
const POOL: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB";

/// Pages of the pool at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pool {
    total: u64,
    /// Free and not promised to a mapping.
    free: u64,
}

impl Pool {
    fn read(folder: &Path) -> Option<Self> {
        let number = |name: &str| -> Option<u64> {
            std::fs::read_to_string(folder.join(name)).ok()?.trim().parse().ok()
        };
        let free = number("free_hugepages")?.saturating_sub(number("resv_hugepages")?);
        // What the kernel may add when the pool is empty.
        let surplus = number("nr_overcommit_hugepages")?
            .saturating_sub(number("surplus_hugepages").unwrap_or(0));
        Some(Self { total: number("nr_hugepages")?, free: free + surplus })
    }

    fn check(self, needed: u64) -> Result<(), KvmError> {
        if needed <= self.free {
            return Ok(());
        }
        let enough = self.total.saturating_add(needed - self.free);
        Err(KvmError::new(
            Errno::ENOMEM,
            format!(
                "backing 'hugetlb' needs {needed} pages of 2 MiB and {} of {} are free: enlarge the \
                 pool with sysctl vm.nr_hugepages={enough}, or use backing 'anon'",
                self.free, self.total
            ),
        ))
    }
}

/// Refuses what the pool cannot give now.
///
/// # Errors
/// `EINVAL` for a size that is no multiple of 2 MiB, `ENOMEM` with the number of pages that are
/// needed and free, `EOPNOTSUPP` on a kernel without such pages.
pub(crate) fn check(bytes: usize) -> Result<(), KvmError> {
    check_in(Path::new(POOL), bytes)
}

fn check_in(folder: &Path, bytes: usize) -> Result<(), KvmError> {
    if !bytes.is_multiple_of(HUGE_BYTES) {
        return Err(KvmError::invalid(format!(
            "RAM size {bytes} is not a multiple of {HUGE_BYTES}, the page size of backing 'hugetlb'"
        )));
    }
    let pool = Pool::read(folder).ok_or_else(|| {
        KvmError::new(
            Errno::EOPNOTSUPP,
            format!("the host has no pool of 2 MiB pages at {}: use 'anon'", folder.display()),
        )
    })?;
    pool.check((bytes / HUGE_BYTES) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(name: &str, numbers: &[(&str, u64)]) -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("hugetlb-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        for (file, number) in numbers {
            std::fs::write(folder.join(file), format!("{number}\n")).unwrap();
        }
        folder
    }

    #[test]
    fn too_small_a_pool_is_refused_with_numbers_and_remedy() {
        let folder = pool(
            "small",
            &[
                ("nr_hugepages", 10),
                ("free_hugepages", 8),
                ("resv_hugepages", 3),
                ("surplus_hugepages", 0),
                ("nr_overcommit_hugepages", 0),
            ],
        );
        assert_eq!(check_in(&folder, 5 * HUGE_BYTES), Ok(()));
        let error = check_in(&folder, 64 * HUGE_BYTES).unwrap_err();
        assert_eq!(error.errno, Errno::ENOMEM);
        let text = error.to_string();
        for part in ["needs 64 pages", "5 of 10 are free", "vm.nr_hugepages=69"] {
            assert!(text.contains(part), "{text}");
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_size_between_pages_and_a_kernel_without_them() {
        let nowhere = Path::new("/nonexistent");
        assert_eq!(check_in(nowhere, 4096).unwrap_err().errno, Errno::EINVAL);
        assert_eq!(check_in(nowhere, HUGE_BYTES).unwrap_err().errno, Errno::EOPNOTSUPP);
    }
}
