"""Speed and memory against floors and peers: ratios within one run."""
