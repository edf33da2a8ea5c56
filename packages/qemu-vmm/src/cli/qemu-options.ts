/** Why some of {@link ABSENT_OPTIONS} are not here, and what does instead. */
export const INSTEAD: ReadonlyMap<string, string> = new Map([
  ['usb', 'there is no USB controller yet; leave it out: keyboard and mouse are at PS/2'],
  ['usbdevice', 'there is no USB controller yet; leave it out: keyboard and mouse are at PS/2'],
])

/**
 * Options of QEMU 7.2 that this command does not have. Naming them apart from typing errors tells
 * a user who brings a working command line that nothing is wrong with the line.
 */
export const ABSENT_OPTIONS: ReadonlySet<string> = new Set(
  (
    'add-fd async-teardown audio audio-help bt ' +
    'chroot compat dfilter dtb dump-vmstate enable-sync-profile ' +
    'fsdev full-screen gdb icount incoming iscsi k loadvm ' +
    'mtdblock no-fd-bootchk ' +
    'numa only-migratable plugin ' +
    'portrait preconfig prom-env qtest qtest-log rotate runas s ' +
    'sandbox sd seed semihosting semihosting-config set singlestep spice ' +
    'tb-size tpmdev trace usb usbdevice virtfs watchdog watchdog-action win2k-hack ' +
    'writeconfig xen-attach xen-domid xen-domid-restrict'
  ).split(' '),
)
