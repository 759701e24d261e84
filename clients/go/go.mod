module localmem

go 1.23
