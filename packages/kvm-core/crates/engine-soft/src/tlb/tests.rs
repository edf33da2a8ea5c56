use super::*;

const HOST: u64 = 0x7f00_0000_0000;

fn filled(linear: u64) -> Tlb {
    let mut t = Tlb::default();
    t.fill(
        Class::Supervisor,
        linear,
        HOST,
        0x5000,
        Allowed { read: true, write: true, global: false },
    );
    t.fill_exec(false, linear, 0x5000, false);
    t
}

fn reads(t: &Tlb, linear: u64) -> bool {
    t.entry_of(Class::Supervisor, linear).read == Tlb::tag(linear)
}

#[test]
fn a_translation_serves_its_page_and_its_class_only() {
    let t = filled(0xffff_8000_0000_1000);
    assert!(reads(&t, 0xffff_8000_0000_1fff));
    assert!(!reads(&t, 0xffff_8000_0000_2000));
    // The same index, another page.
    assert!(!reads(&t, 0xffff_8000_0000_1000 + (ENTRIES as u64) * 4096));
    let e = t.entry_of(Class::User, 0xffff_8000_0000_1000);
    assert_ne!(e.read, Tlb::tag(0xffff_8000_0000_1000));
}

#[test]
fn the_checked_class_is_never_filled() {
    let mut t = Tlb::default();
    t.fill(
        Class::Checked,
        0x1000,
        HOST,
        0x5000,
        Allowed { read: true, write: true, global: false },
    );
    assert_ne!(t.entry_of(Class::Checked, 0x1000).read, Tlb::tag(0x1000));
}

#[test]
fn another_pcid_has_no_translations_of_this_one() {
    let mut t = Tlb::default();
    t.switch(1, true);
    t.fill(
        Class::Supervisor,
        0x1000,
        HOST,
        0x5000,
        Allowed { read: true, write: false, global: false },
    );
    t.switch(1, false);
    assert!(reads(&t, 0x1000));
    t.flush_pcid(2);
    assert!(reads(&t, 0x1000));
    let space = t.space();
    t.switch(2, false);
    assert!(!reads(&t, 0x1000));
    assert_ne!(t.space(), space);
    t.switch(1, false);
    assert!(!reads(&t, 0x1000));
}

#[test]
fn no_address_matches_an_empty_entry() {
    let mut t = Tlb::default();
    for linear in [0, 0xfff, 0xffff_ffff_ffff_f000, u64::MAX] {
        assert!(!reads(&t, linear));
        assert_eq!(t.exec(false, linear), None);
    }
    for read in [false, true] {
        t.fill(
            Class::Supervisor,
            u64::MAX,
            HOST,
            0x5000,
            Allowed { read, write: !read, global: false },
        );
        let e = t.entry_of(Class::Supervisor, u64::MAX);
        assert_eq!([e.read, e.write].map(|tag| tag == Tlb::tag(u64::MAX)), [read, !read]);
    }
}

#[test]
fn a_number_of_a_space_that_comes_again_is_announced() {
    let mut t = Tlb::default();
    let (mut space, mut restarts) = (t.space(), t.restarts());
    for _ in 0..=LAST_SPACE {
        t.switch(0, true);
        assert!(t.space() > space || t.restarts() > restarts);
        (space, restarts) = (t.space(), t.restarts());
    }
    assert_eq!((space, restarts), (0, 1));
}

#[test]
fn the_present_pcid_is_flushed_also_after_everything_was() {
    let mut t = Tlb::default();
    t.switch(7, true);
    t.flush_all();
    t.fill(
        Class::Supervisor,
        0x1000,
        HOST,
        0x5000,
        Allowed { read: true, write: true, global: false },
    );
    t.flush_pcid(7);
    assert!(!reads(&t, 0x1000));
}

#[test]
fn regions_of_huge_pages_do_not_pile_up() {
    let mut t = Tlb::default();
    for n in 0..1000u64 {
        t.note_large(n << 30, 30);
        t.fill(
            Class::Supervisor,
            n << 30,
            HOST,
            0x5000,
            Allowed { read: true, write: true, global: false },
        );
        assert!(reads(&t, n << 30));
    }
    assert!(t.huge.len() <= MAX_HUGE);
    t.flush_page((999 << 30) + 0x5000);
    assert!(!reads(&t, 999 << 30));
}

#[test]
fn invlpg_takes_all_parts_of_a_large_page() {
    let mut t = filled(0x20_3000);
    t.note_large(0x20_3000, 21);
    t.fill(
        Class::Supervisor,
        0x20_4000,
        HOST,
        0x6000,
        Allowed { read: true, write: true, global: false },
    );
    t.flush_page(0x20_4000);
    assert!(!reads(&t, 0x20_3000) && !reads(&t, 0x20_4000));
    assert_eq!(t.exec(false, 0x20_3000), None);

    let mut t = filled(0x4000_1000);
    t.note_large(0x4000_1000, 30);
    t.flush_page(0x7fff_f000);
    assert!(!reads(&t, 0x4000_1000));
}

#[test]
fn revoking_writes_keeps_reads() {
    let mut t = filled(0x1000);
    t.revoke_writes(Some(0x9000));
    assert_eq!(t.entry_of(Class::Supervisor, 0x1000).write, Tlb::tag(0x1000));
    t.revoke_writes(Some(0x5000));
    assert_ne!(t.entry_of(Class::Supervisor, 0x1000).write, Tlb::tag(0x1000));
    assert!(reads(&t, 0x1000));
}

#[test]
fn revoking_writes_finds_every_translation_of_the_page() {
    let mut t = Tlb::default();
    let allowed = Allowed { read: true, write: true, global: true };
    // Pages so far apart that the short numbers of some are the same.
    let gpas = [0, 0x5000, 0x5000 + (1 << 43), 0x5000 + (1 << 44), 0xf_ffff_ffff_f000];
    for n in 0..2 * ENTRIES as u64 {
        let class = [Class::Supervisor, Class::SupervisorAc, Class::User][(n % 3) as usize];
        t.fill(class, n << 12, HOST, gpas[(n % 5) as usize], allowed);
    }
    let writable =
        |t: &Tlb, gpa| t.entries.iter().filter(|e| e.gpa() == gpa && e.write != 0).count();
    for (i, &gpa) in gpas.iter().enumerate() {
        let rest: Vec<usize> = gpas[i + 1..].iter().map(|&other| writable(&t, other)).collect();
        assert!(writable(&t, gpa) > 1000);
        t.revoke_writes(Some(gpa));
        assert_eq!(writable(&t, gpa), 0);
        assert_eq!(
            gpas[i + 1..].iter().map(|&other| writable(&t, other)).collect::<Vec<_>>(),
            rest
        );
    }
}

#[test]
fn a_flush_that_keeps_global_pages_keeps_only_those() {
    let mut t = Tlb::default();
    t.switch(0, true);
    let allowed = |global| Allowed { read: true, write: true, global };
    for n in 0..4000u64 {
        t.fill(Class::Supervisor, 0x1000, HOST, 0x5000, allowed(true));
        t.fill(Class::Supervisor, 0x2000, HOST, 0x6000, allowed(false));
        t.fill(Class::User, 0x1000, HOST, 0x7000, allowed(false));
        t.fill_exec(true, 0x1000, 0x7000, false);
        t.fill_exec(false, 0x1000, 0x7000, true);
        let (space, restarts) = (t.space(), t.restarts());
        t.switch(0, true);
        assert!(reads(&t, 0x1000) && !reads(&t, 0x2000));
        assert_ne!(t.entry_of(Class::User, 0x1000).read, Tlb::tag(0x1000));
        assert_eq!((t.exec(true, 0x1000), t.exec(false, 0x1000)), (None, Some(0x7000)));
        assert!(t.space() != space || t.restarts() != restarts, "user code after {n} flushes");
    }
    // More than the list holds: nothing may stay that is not known to be global.
    for n in 0..6000u64 {
        t.fill(Class::Supervisor, n << 12, HOST, 0x5000, allowed(n == 5000));
    }
    t.switch(0, true);
    assert!((0..6000u64).all(|n| reads(&t, n << 12) == (n == 5000)));
    // A global page in the place of another stays.
    t.fill(Class::Supervisor, 0x3000, HOST, 0x5000, allowed(false));
    t.fill(Class::Supervisor, 0x3000 + (ENTRIES << 12) as u64, HOST, 0x5000, allowed(true));
    t.switch(0, true);
    assert!(reads(&t, 0x3000 + (ENTRIES << 12) as u64));
}

#[test]
fn supervisor_code_on_pages_that_are_not_global_is_forgotten() {
    let mut t = Tlb::default();
    t.switch(0, true);
    t.fill_exec(false, 0x1000, 0x7000, false);
    let restarts = t.restarts();
    t.switch(0, true);
    assert_eq!(t.exec(false, 0x1000), None);
    assert_ne!(t.restarts(), restarts);
}
