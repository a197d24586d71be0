"""Operations that several rooms share, each fast path beside a plain twin in its test."""
