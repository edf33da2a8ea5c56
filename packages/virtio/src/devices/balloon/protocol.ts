/** Feature bits (VirtIO 1.2, section 5.5.3). */
export const VIRTIO_BALLOON_F_STATS_VQ = 1
export const VIRTIO_BALLOON_F_DEFLATE_ON_OOM = 2
export const VIRTIO_BALLOON_F_PAGE_POISON = 4
export const VIRTIO_BALLOON_F_PAGE_REPORTING = 5

/** Pages of the balloon, whatever the guest's own pages are (section 5.5.6). */
export const VIRTIO_BALLOON_PAGE_BYTES = 4096
/** A page's number in the queues. */
export const PFN_BYTES = 4

/** The configuration (section 5.5.4): pages wanted, pages had, a hint that is not offered, the poison. */
export const CONFIG_BYTES = 16
export const CONFIG_NUM_PAGES = 0
export const CONFIG_ACTUAL = 4
export const CONFIG_POISON_VAL = 12

/** A statistic: a tag of two bytes and a value of eight (section 5.5.6.4). */
export const STAT_BYTES = 10
/** The names of the tags, by their numbers. */
export const BALLOON_STATS = [
  'swapIn',
  'swapOut',
  'majorFaults',
  'minorFaults',
  'freeMemory',
  'totalMemory',
  'availableMemory',
  'diskCaches',
  'hugetlbAllocations',
  'hugetlbFailures',
] as const

/** What the guest tells of its memory: bytes, or how often something has happened. */
export type BalloonStats = Partial<Record<(typeof BALLOON_STATS)[number], bigint>>
