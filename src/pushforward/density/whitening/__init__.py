"""Which affine maps and tail transforms bring the columns near to a standard Gaussian?"""
