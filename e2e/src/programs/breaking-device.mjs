// A device that breaks in the way that the guest writes: 1 throws, 2 throws later, 3 ends the isolate.
export const breaking = {
  name: 'breaking',
  mmio: { base: 0xd000_0000, len: 4 },
  create: () => ({
    read: () => 0,
    write(offset, size, value) {
      if (value === 1) throw new RangeError('thrown in a handler')
      if (value === 2) {
        setTimeout(() => {
          throw new RangeError('thrown later')
        }, 1)
      }
      if (value === 3) process.exit(7)
    },
    reset() {},
    save: () => ({}),
    load() {},
  }),
}
