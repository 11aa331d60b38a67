//! Whether the residue may have grown, by the text of `/proc/vmstat`. Pure.
//!
//! It counts pages as they are allocated and freed, also those that a CPU takes from its own list of free pages,
//! which `/proc/meminfo` does not see. To read it takes a fifth of the time of all that a level takes, and on a
//! host with many CPUs a smaller part. The sum has no zero: two readings can be compared.

/// Pages that are in classes of their own (see `meminfo`).
const ACCOUNTED: [&str; 7] = [
    "nr_anon_pages",
    "nr_file_pages",
    "nr_slab_reclaimable",
    "nr_kernel_misc_reclaimable",
    "nr_page_table_pages",
    "nr_sec_page_table_pages",
    "pgfree",
];

/// Pages that were allocated and are neither free nor in such a class.
pub(super) fn pages(vmstat: &str, page_size: u64) -> Option<i64> {
    let (mut pages, mut counts) = (0_i64, 0);
    for line in vmstat.lines() {
        let (name, number) = line.split_once(' ')?;
        let sign = if name.starts_with("pgalloc_") {
            counts += 1;
            1
        } else if ACCOUNTED.contains(&name) || name == "nr_kernel_stack" {
            -1
        } else {
            continue;
        };
        let number: i64 = number.parse().ok()?;
        // Stacks are counted in KiB.
        let in_kib = name == "nr_kernel_stack";
        let number = if in_kib { number * 1024 / i64::try_from(page_size).ok()? } else { number };
        pages = pages.wrapping_add(sign * number);
    }
    (counts > 0).then_some(pages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_that_no_class_accounts_for_are_counted() {
        let text = "nr_free_pages 77\nnr_anon_pages 20\nnr_file_pages 10\nnr_kernel_stack 16\n\
            nr_slab_unreclaimable 5\npgalloc_dma32 100\npgalloc_normal 1000\npgfree 900\n";
        assert_eq!(pages(text, 4096), Some(1100 - 900 - 20 - 10 - 4));
    }

    #[test]
    fn a_kernel_that_does_not_count_them_tells_nothing() {
        assert_eq!(pages("nr_anon_pages 20\npgfree 7\n", 4096), None);
        assert_eq!(pages("", 4096), None);
    }
}
