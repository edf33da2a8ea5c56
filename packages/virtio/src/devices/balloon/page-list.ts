import type { DescriptorChain } from '../../queue/chain.ts'
import { PFN_BYTES, VIRTIO_BALLOON_PAGE_BYTES } from './protocol.ts'

/**
 * Page numbers of one chain at most; drivers send 256. A chain may describe the same memory many times over, and pages
 * that are not given back are only not saved.
 */
const MAX_PAGES = 1 << 16
const CHUNK_PAGES = 1024

/** Lists of page numbers in the inflate queue; neighbours are given back together. */
export class PageList {
  readonly #discard: (gpa: number, length: number) => void
  readonly #bytes: Uint8Array = new Uint8Array(CHUNK_PAGES * PFN_BYTES)
  readonly #view: DataView = new DataView(this.#bytes.buffer)

  constructor(discard: (gpa: number, length: number) => void) {
    this.#discard = discard
  }

  discardListed(chain: DescriptorChain): void {
    const count = Math.min(Math.floor(chain.readableBytes / PFN_BYTES), MAX_PAGES)
    let [first, pages] = [0, 0]
    const flush = (): void => {
      if (pages > 0) {
        this.#discard(first * VIRTIO_BALLOON_PAGE_BYTES, pages * VIRTIO_BALLOON_PAGE_BYTES)
      }
      pages = 0
    }
    for (let done = 0; done < count; done += CHUNK_PAGES) {
      const here = Math.min(count - done, CHUNK_PAGES)
      chain.read(done * PFN_BYTES, this.#bytes, 0, here * PFN_BYTES)
      for (let i = 0; i < here; i++) {
        const page = this.#view.getUint32(i * PFN_BYTES, true)
        // Drivers take pages from either end of what is free.
        if (pages > 0 && page === first - 1) first = page
        else if (pages === 0 || page !== first + pages) {
          flush()
          first = page
        }
        pages++
      }
    }
    flush()
  }
}
