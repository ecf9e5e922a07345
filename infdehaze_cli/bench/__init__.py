"""What ``infdehaze bench`` measures: quality on synthetic haze, speed beside a bare forward pass, memory over sizes."""
